"""What each operator computes, one file for each family; importing a file registers its operators (registry.py)."""
