"""Coded questions: what they ask is in the library, for who knows the words."""

from collections import Counter
from itertools import islice

import pytest
from pydantic import ValidationError

from steadyrl.environments.hotpot_qa import HotpotQA, HotpotQASettings
from steadyrl.environments.hotpot_questions import QuestionSet
from steadyrl.environments.protocol import Split
from steadyrl.environments.splits import split_of
from steadyrl.lab.worlds.coded_questions import CodedQuestions


def world(**settings: object) -> QuestionSet:
    return CodedQuestions(**settings).load()


def some(loaded: QuestionSet, split: Split, count: int = 200) -> list:
    return [loaded.questions[split][number] for number in range(count)]


@pytest.mark.parametrize("relations", [2, 4, 6])
def test_the_rulebook_and_the_library_answer_every_question(relations: int):
    loaded = world(relations=relations)
    library = {passage.title: passage.text for passage in loaded.passages}
    for split in Split:
        for question in some(loaded, split):
            meaning = dict(question.rulebook.split())
            reached, *words = question.question.split()
            titles = []
            for word in words:
                titles.append(f"{reached} {meaning[word]}")
                fact = library[titles[-1]]
                assert fact.startswith(titles[-1])
                reached = fact.split()[-1]
            assert (question.titles, question.answer) == (tuple(titles), reached)
            assert question.hint == " ".join(word + meaning[word] for word in words)


def test_relations_of_a_name_lead_to_different_others():
    reached: dict[str, set[str]] = {}
    for passage in world(relations=5).passages:
        name, _, other = passage.text.split()
        assert name != other
        reached.setdefault(name, set()).add(other)
    assert len(reached) == 260
    assert {len(others) for others in reached.values()} == {5}


def test_splits_share_no_name():
    loaded = world()
    asked = {
        split: {name for q in some(loaded, split) for name in (q.question[:2], q.answer)}
        for split in Split
    }
    assert all(split_of(name) is split for split, names in asked.items() for name in names)
    for passage in loaded.passages:
        name, _, other = passage.text.split()
        assert split_of(name) is split_of(other)


def test_fixed_words_have_the_numbered_meaning_and_permuted_ones_every_other():
    # In the order of permutations: aei, aie, eai, eia, iae, iea.
    fixed = some(world(relations=3, words="fixed", meaning=3), Split.TRAIN)
    assert {question.rulebook for question in fixed} == {"ke li ma"}
    permuted = some(world(relations=3, meaning=3), Split.TRAIN, 600)
    counts = Counter(question.rulebook for question in permuted)
    assert set(counts) == {"ka le mi", "ka li me", "ke la mi", "ki la me", "ki le ma"}
    # 120 of each are expected, with a standard deviation below 10.
    assert all(80 < count < 160 for count in counts.values())


def test_a_question_is_asked_with_many_meanings():
    questions = some(world(), Split.VALIDATION, 3000)
    meanings: dict[str, set[str]] = {}
    for question in questions:
        meanings.setdefault(question.question, set()).add(question.rulebook)
    assert min(map(len, meanings.values())) > 1


def test_questions_are_the_same_at_any_time_and_a_seed_has_other_facts():
    assert some(world(), Split.TEST, 20) == some(world(), Split.TEST, 20)
    here, there = world().passages, world(seed=1).passages
    alike = sum(one == other for one, other in zip(here, there, strict=True))
    assert alike < 0.1 * len(here)


def test_a_search_for_a_fact_finds_it_before_all_others():
    settings = HotpotQASettings(questions=CodedQuestions(), style="compact", passages=1)
    environment = HotpotQA(settings)
    library = world().passages
    for passage in islice(library, 0, None, 7):
        reply = environment.start(environment.task(Split.TRAIN, 0)).respond(
            f"search({passage.title})"
        )
        assert reply.observation[0].content == passage.text


def test_a_meaning_that_does_not_exist_is_refused():
    assert CodedQuestions(relations=3, meaning=5)
    with pytest.raises(ValidationError, match=r"3 relations have the meanings 0 to 5\. Choose one"):
        CodedQuestions(relations=3, meaning=6)
