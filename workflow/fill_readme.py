"""Put the numbers of results/sample into README.md, between its marks; for maintainers."""

from __future__ import annotations

from covid_utils import paths
from covid_utils.report import headlines, verdicts


def filled(text: str) -> str:
    """README with the counts of verdicts and the key numbers of the ``sample`` profile."""
    summary = verdicts.summary(verdicts.load("sample"))
    parts = {"verdicts": f"**{summary}**", "numbers": headlines.markdown("sample")}
    for part, content in parts.items():
        begin, end = f"<!-- {part}: sample -->", f"<!-- end of {part} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"README.md: the marks {begin} and {end} are missing; put them back.")
        before, rest = text.split(begin, 1)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
    return text


if __name__ == "__main__":
    README = paths.PROJECT / "README.md"
    README.write_text(filled(README.read_text(encoding="utf8")), encoding="utf8")
