"""JSON text: exact in both directions, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier import jsontext
from pannier.records import Json

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
TREES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=5), below, max_size=4)
)


def nested(depth: int) -> Json:
    """Return a list in a list in a list, *depth* of them."""
    tree: Json = 1
    for _ in range(depth):
        tree = [tree]
    return tree


@given(TREES)
def test_what_is_written_is_read_back_exactly(data: Json) -> None:
    """Every tree comes back as it was, to the types and the sign of a zero."""
    assert repr(jsontext.load(jsontext.dump(data))) == repr(data)


@pytest.mark.parametrize("text", ["\ud83d", "\udc00\ud83d", "\ud83dé\ude00", "é\ud800", "😀\ud800"], ids=ascii)
def test_a_lone_surrogate_is_escaped_and_comes_back(text: str) -> None:
    """UTF-8 has no form for it, JSON's escapes have."""
    written = jsontext.dump({text: [text]})

    assert written.isascii()
    assert jsontext.load(written) == {text: [text]}


@pytest.mark.parametrize("data", ["\ud83d\ude00", ["x\ud83d\ude00\ud83d"], {"\ud83d\ude00": 1}], ids=ascii)
def test_two_lone_surrogates_that_would_join_are_refused(data: Json) -> None:
    """Their escapes are those of one character: it would come back in their place."""
    with pytest.raises(ValueError, match="two lone surrogates in a row"):
        jsontext.dump(data)


def test_keys_that_would_become_one_are_refused() -> None:
    """A pair of lone surrogates and the character that it spells are two keys here, and one in JSON."""
    with pytest.raises(ValueError, match="two lone surrogates in a row"):
        jsontext.dump({"\ud83d\ude00": 1, "😀": 2})


def test_text_can_be_read_by_a_person() -> None:
    """Only what has no other form is escaped, and nothing is padded."""
    assert jsontext.dump({"grüße": ["😀", 1.5, None]}) == '{"grüße":["😀",1.5,null]}'


def test_the_deepest_tree_is_written_and_read() -> None:
    """500 levels come back."""
    tree: Json = [nested(jsontext.MAX_DEPTH - 1), {}, {}]
    assert jsontext.load(jsontext.dump(tree)) == tree


@pytest.mark.parametrize("depth", [jsontext.MAX_DEPTH + 1, 100_000])
def test_a_deeper_tree_is_refused(depth: int) -> None:
    """Nothing recurses until it breaks, whoever reads it later."""
    with pytest.raises(ValueError, match="nests deeper than 500 levels"):
        jsontext.dump(nested(depth))


def test_a_wide_tree_is_not_taken_for_a_deep_one() -> None:
    """Only depth is limited; brackets in texts are none."""
    tree: Json = [[], {}, "[" * 1_000] * 1_000
    assert jsontext.load(jsontext.dump(tree)) == tree


def test_text_that_nests_too_deeply_is_refused() -> None:
    """What another hand has written does not break the reader."""
    with pytest.raises(ValueError, match="nests deeper than 500 levels"):
        jsontext.load("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize("text", ["", "{", "nothing", "[1] 2"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    """A damaged payload is told from one that can be read."""
    with pytest.raises(ValueError, match=r"\w"):
        jsontext.load(text)


def test_a_tree_that_holds_itself_is_refused() -> None:
    """It has no end."""
    tree: list[Json] = []
    tree.append(tree)
    with pytest.raises(ValueError, match="Circular"):
        jsontext.dump(tree)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64, 10**400, -(2**64)])
def test_large_integers_stay_integers(number: int) -> None:
    """No reader makes a float of them."""
    assert jsontext.load(jsontext.dump(number)) == number
