"""Pages for people: one self-contained HTML file each, readable without network and on a phone."""
