"""How fast a converted file runs, and where the time goes."""
