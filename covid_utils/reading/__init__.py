"""Scans of one's own: from files to cases, and from outlines to files in the scan's geometry."""
