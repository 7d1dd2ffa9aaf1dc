"""docs/families.md says which families are checked, and is what tools/families.py writes now."""

import tiny
from manyhands.families.family import known_families
from tools.families import PAGE, REAL_WEIGHTS, file_of, known_cases, page


def test_the_committed_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == page(*known_cases()), "run: python tools/families.py"


def test_every_family_has_a_case_that_every_run_checks():
    quick = {file_of(case.model_type) for name, case in tiny.ALL.items() if name not in tiny.SLOW}
    assert sorted(set(known_families()) - quick) == []
    assert set(tiny.ALL) >= tiny.SLOW
    assert set(known_families()) >= set(REAL_WEIGHTS)


def test_a_family_without_a_file_is_shown_on_the_universal_path():
    told = page({"llama": "llama", "odd": "oddity", "odd-slow": "oddity"}, {"odd-slow"})
    assert "| `oddity` |  | modules | odd, *odd-slow* | architecture only |" in told
    assert "| `llama` | Llama 2 and 3: " in told
    assert "| blocks | llama | the storyteller |" in told


def test_a_page_that_lacks_a_new_case_is_noticed():
    cases, slow = known_cases()
    assert page(cases, slow) != page({**cases, "llama-new": "llama"}, slow)
