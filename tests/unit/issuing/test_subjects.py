"""What a failure may stop, as texts that every process makes alike."""

from __future__ import annotations

from acmems.issuing.subjects import BlockSubject, NamesSubject


def test_a_subject_as_a_text() -> None:
    """Each subject has a text of its own, which is never longer than a database takes."""
    names = [tuple(f"{number}.{each}.example.org" for number in range(100)) for each in "ab"]
    made = [NamesSubject(each) for each in names]
    texts = {each.text("https://ca") for each in made}
    texts |= {BlockSubject("a", names[0], after).text("https://ca") for after in ("failure", "csrs")}
    assert len(texts) == 4
    assert all(len(each) < 600 for each in texts)
