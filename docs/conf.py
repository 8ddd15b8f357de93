"""Settings of the site. `build.py` adds the title and what the pages name in double braces."""

project = "Companion: a pipeline for COVID-19 scans"
language = "en"
extensions = ["myst_nb"]
exclude_patterns = ["extra"]
myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3

# Nothing is executed, and nothing is loaded from elsewhere: no widgets, no Binder.
nb_execution_mode = "off"
nb_ipywidgets_js: dict = {}
nb_merge_streams = True
nb_output_stderr = "remove"

html_theme = "sphinx_book_theme"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("tables.js", {"defer": "defer"})]
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_use_index = html_permalinks = False
# Pages of prose have their contents on the right; those of wide tables need the room.
PROSE = ("notebooks/*", "audit", "models", "data", "data_card", "segmentation_log")
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],
    "secondary_sidebar_items": {name: ["page-toc.html"] for name in PROSE},
    "footer_content_items": ["extra-footer.html"],
    "extra_footer": "Not a medical device; nothing here is fit for diagnosis. Code under the MIT "
    "licence; the data sets have licences of their own.",
}
