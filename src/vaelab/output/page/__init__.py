"""The results page: one self-contained HTML file that a reviewer opens from disk."""

from vaelab.output.page.collect import write_page
from vaelab.output.page.page import build_page

__all__ = ["build_page", "write_page"]
