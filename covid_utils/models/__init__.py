"""Model floor: network definitions and the import of published weights."""
