"""A link as a picture: the path draws exactly the dark squares that the library made."""

import re

from manyhands.api.qr import BORDER, qr_code, qr_path

LINK = "manyhands://10.77.0.1:7702/mh1-" + "-".join(["abcdef"] * 9) + "-a"


def test_the_path_covers_the_dark_squares_and_no_light_one():
    drawn = qr_path(LINK)
    dark = set()
    for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", drawn["path"]):
        dark |= {(int(x) + step, int(y)) for step in range(int(width))}
    assert re.sub(r"M\d+ \d+h(\d+)v1h-\1z", "", drawn["path"]) == ""
    code = qr_code(LINK)
    wanted = {
        (x + BORDER, y + BORDER)
        for y, row in enumerate(code.matrix)
        for x, square in enumerate(row)
        if square
    }
    assert dark == wanted
    assert drawn["side"] == len(code.matrix) + 2 * BORDER


def test_it_is_of_capitals_which_take_less_room():
    assert qr_code(LINK).mode == "alphanumeric"
    assert qr_path(LINK) == qr_path(LINK.upper())
