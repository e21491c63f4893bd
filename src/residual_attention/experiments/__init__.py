"""The paper's tables: declarations, cells (ordinary runs), and tables with our figures beside the paper's."""
