"""The reference page names every field with its words."""

from __future__ import annotations

from evergraft.api.fields import EXPLAINED
from evergraft.api.reference import markdown
from evergraft.api.search import Search


def test_the_page_names_every_field_of_the_search_with_its_words() -> None:
    page = markdown()
    for name, field in Search.model_fields.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{field.alias or name}` |"))
        assert " ".join(str(field.description).split()) in row


def test_the_page_says_types_defaults_and_what_is_required() -> None:
    lines = markdown().splitlines()
    assert any(line.startswith("| `dataset` | [Dataset](#dataset) | required |") for line in lines)
    assert any(line.startswith("| `format` | `Auto`, `ImageFolder`, `Npz`, `Parquet` | `Auto` |") for line in lines)
    assert any(line.startswith("| `iteration` | integer from 1 to 999,999,999 | `1` |") for line in lines)
    assert any(line.startswith("| `generations` | integer from 1 to 10,000 | `4` |") for line in lines)


def test_every_form_of_a_field_reaches_the_page() -> None:
    page = markdown()
    assert [words for words in EXPLAINED.values() if words not in page] == []


def test_every_link_has_its_heading() -> None:
    page = markdown()
    targets = {part.split(")", maxsplit=1)[0] for part in page.split("](#")[1:]}
    headings = {line.removeprefix("## ").lower() for line in page.splitlines() if line.startswith("## ")}
    assert targets
    assert targets <= headings
