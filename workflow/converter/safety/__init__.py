"""What keeps a stranger's file from doing harm, for all frameworks."""
