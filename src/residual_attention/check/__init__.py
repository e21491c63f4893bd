"""A data set looked over before training: copies, suspect labels, unreadable files, class counts."""
