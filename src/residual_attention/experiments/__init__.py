"""The paper's tables: declarations, cells that are ordinary runs, tables with ours beside the paper's."""
