"""Ids on their way in and out, and text that stands in lines."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from core.values import ID_MAX, WIRE, Id, Value, one_line


class Named(Value):
    """Has an id."""

    thing_id: Id


@pytest.mark.parametrize("number", [0, 1, 1 << 53, ID_MAX])
def test_an_id_is_an_integer_here_and_decimal_digits_on_every_wire(number: int) -> None:
    named = Named.model_validate({"thing_id": str(number)})
    assert named == Named(thing_id=number)
    assert type(named.thing_id) is int
    assert named.model_dump() == {"thing_id": number}
    assert named.model_dump(context=WIRE) == {"thing_id": str(number)}
    assert named.model_dump_json() == f'{{"thing_id":"{number}"}}'
    assert Named.model_validate_json(named.model_dump_json()) == named


@pytest.mark.parametrize(
    "wrong",
    [
        -1, ID_MAX + 1, 1 << 70, True, False, 1.0, None, b"1", [1],
        "", "-1", "+1", "01", "00", " 1", "1 ", "1\n", "1.0", "1e3", "0x1", "1_0", "\uff11", "٣",
        str(ID_MAX + 1), "9" * 19,
    ],
)  # fmt: skip
def test_nothing_else_is_an_id(wrong: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Named.model_validate({"thing_id": wrong})
    (error,) = refused.value.errors(include_input=False)
    assert (error["loc"], error["type"]) == (("thing_id",), "id")
    assert error["msg"] == "an id is an integer or a decimal string of 63 bits"


def test_names_are_one_line_of_what_can_be_seen() -> None:
    assert one_line("  王  小\u3000明\n") == "王 小 明"
    assert one_line("👨\u200d👩\u200d👧 家") == "👨\u200d👩\u200d👧 家"
    for wrong in ("", " \n", "王\u202e芳", "a\x1b[2Jb", "零\u200b宽", "\ufeff王", "\u3164", "王\u2800"):
        with pytest.raises(ValueError, match=r"visible|see"):
            one_line(wrong)
