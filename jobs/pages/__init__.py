"""Pages for a browser that no house below can make alone: they take their style from ``pipeline.inspection_page``."""
