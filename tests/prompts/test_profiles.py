"""Draw profiles: what ships, the way to JSON and back, and errors that name the field."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts import DepthCue, DrawProfile, GroupStyle, profile, profile_names


def test_the_shipped_profiles() -> None:
    assert profile_names() == ("vap", "compact", "limbs")
    assert [profile(name).name for name in profile_names()] == list(profile_names())
    assert profile("vap").style("plumb") is None
    assert profile("compact").style("plumb") is not None
    assert replace(profile("limbs"), name="compact", limbs=0.0) == profile("compact")


@pytest.mark.parametrize("name", profile_names())
def test_json_round_trip(name: str) -> None:
    text = json.dumps(profile(name).to_dict())
    assert DrawProfile.from_dict(json.loads(text)) == profile(name)


def test_profiles_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        profile("vap").name = "mine"  # type: ignore[misc]


def test_a_missing_optional_field_takes_its_default() -> None:
    plain = {"name": "thin", "groups": [{"group": "arm", "width": 0.01, "disc": 0.0}]}
    assert DrawProfile.from_dict(plain) == DrawProfile("thin", (GroupStyle("arm", 0.01, 0.0),))


ARM = {"group": "arm", "width": 0.01, "disc": 0.0}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"unit": "metre"}, UnknownName, "unknown length unit of a draw profile 'metre'. Did you mean 'metres'?"),
        ({"groups": []}, InvalidInput, "groups of draw profile 'x': given \\[\\]"),
        ({"groups": [ARM, ARM]}, InvalidInput, "each once"),
        ({"groups": "arm"}, InvalidInput, "groups of a draw profile: given str, expected a list"),
        ({"groups": ["arm"]}, InvalidInput, "fields of GroupStyle: given str, expected a mapping"),
        ({"groups": [{"group": "arm", "width": 1.0}]}, InvalidInput, "expected also \\['disc'\\]"),
        ({"groups": [{**ARM, "group": "griper"}]}, UnknownName, r"skeleton group 'griper'\. Did you mean 'gripper'"),
        (
            {"groups": [{**ARM, "width": 0.0}]},
            InvalidInput,
            "width of arm: given 0.0, expected a number in \\(0.0, inf",
        ),
        ({"groups": [{**ARM, "disc": -1.0}]}, InvalidInput, "disc of arm: given -1.0"),
        ({"groups": [{**ARM, "disc": "big"}]}, InvalidInput, "disc of arm: given big"),
        ({"groups": [{**ARM, "dashes": 0}]}, InvalidInput, "dashes of arm: given 0, expected an integer of at least 1"),
        ({"groups": [{**ARM, "dashes": True}]}, InvalidInput, "dashes of arm: given True"),
        ({"groups": [{**ARM, "discs_on": "tip"}]}, UnknownName, "place of discs of arm 'tip'. Did you mean 'tips'"),
        ({"thickest": 0.0}, InvalidInput, "thickest: given 0.0"),
        ({"limbs": 1.5, "unit": "metres"}, InvalidInput, "limbs: given 1.5"),
        ({"limbs": 0.3}, InvalidInput, "limbs of a profile of form 'skeleton' and unit 'height_share': given 0.3"),
        ({"thinnest": 0.2}, InvalidInput, "thickest: given 0.1, expected a number in \\(0.2"),
        ({"joint_tint": 1.5}, InvalidInput, "joint_tint: given 1.5"),
        ({"z_near": 0}, InvalidInput, "z_near: given 0"),
        ({"z_near": float("nan")}, InvalidInput, "z_near: given nan"),
        ({"depth_cue": {"near": 1.0, "far": 1.0, "dimmest": 0.5}}, InvalidInput, "depth cue far: given 1.0"),
        ({"depth_cue": {"near": 1.0, "far": 2.0}}, InvalidInput, "fields of DepthCue: .* also \\['dimmest'\\]"),
        ({"depth_cue": 3}, InvalidInput, "fields of DepthCue: given int"),
        ({"depthcue": None}, UnknownName, "field of DrawProfile 'depthcue'. Did you mean 'depth_cue'"),
    ],
)
def test_errors_name_the_field(change: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        DrawProfile.from_dict({"name": "x", "groups": [ARM], **change})


def test_a_profile_must_be_a_mapping_with_a_name() -> None:
    with pytest.raises(InvalidInput, match="fields of DrawProfile: given list, expected a mapping"):
        DrawProfile.from_dict([])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"expected also \['name'\]"):
        DrawProfile.from_dict({"groups": [ARM]})


def test_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"draw profile 'compct'\. Did you mean 'compact'"):
        profile("compct")


def test_replace_checks_again() -> None:
    with pytest.raises(InvalidInput, match=r"depth cue dimmest: given 2\.0"):
        replace(profile("vap"), depth_cue=DepthCue(0.1, 1.0, 2.0))
