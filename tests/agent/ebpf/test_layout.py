"""Sizes and encodings that bpf/*.h share; the compiler asserts the same sizes on its side."""

from hypothesis import given
from hypothesis import strategies as st

from random_maps import endpoints, policy_keys, prefix_entries, u16, u32
from tabard.agent.ebpf import layout
from tabard.dataplane.maps import Endpoint, Mode, PolicyKey, PrefixEntry, Reason
from tabard.dataplane.port import MapSizes


def test_entries_have_the_sizes_that_the_programs_read() -> None:
    sizes = {s.name: (s.key, s.value) for s in layout.shapes(MapSizes())}
    assert sizes == {
        "settings": (4, 32),
        "identities": (4, 1),
        "policies": (20, 4),
        "nodes": (16, 1),
        "prefixes": (20, 24),
        "hosts": (16, 4),
        "endpoints": (16, 88),
        "conntrack": (40, 32),
        "fragments": (40, 8),
        "counters": (4, 8),
        "events": (0, 0),
        "scratch": (4, 60),
    }
    assert layout.EVENT.size == 56
    assert max(Reason) < layout.REASONS_MAX


@given(endpoints)
def test_an_endpoint_survives_its_encoding(endpoint: Endpoint) -> None:
    assert layout.unpack_endpoint(layout.pack_endpoint(endpoint)) == endpoint


@given(policy_keys())
def test_a_policy_key_survives_its_encoding(key: PolicyKey) -> None:
    assert layout.unpack_policy(layout.pack_policy(key)) == key


@given(prefix_entries)
def test_a_prefix_survives_its_encoding(entry: PrefixEntry) -> None:
    assert layout.unpack_prefix(layout.pack_prefix(entry)) == entry


@given(st.builds(layout.Settings, st.sampled_from(Mode), u32, u16, st.booleans(), u32))
def test_settings_survive_their_encoding(settings: layout.Settings) -> None:
    assert layout.unpack_settings(layout.pack_settings(settings)) == settings


def test_any_size_is_another_schema_and_no_other_program() -> None:
    schemas = {layout.schema(MapSizes(**{name: 16})) for name in MapSizes.__slots__}
    assert len(schemas | {layout.schema(MapSizes())}) == len(MapSizes.__slots__) + 1
    assert all(map(layout.is_same_format, schemas))
    assert not layout.is_same_format("0-abc")
    assert not layout.is_same_format(f"{layout.FORMAT}0-abc")
