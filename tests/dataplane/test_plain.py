import json

from hypothesis import given

from random_maps import worlds
from tabard.dataplane.maps import Maps
from tabard.dataplane.plain import entries, maps_of, plain


@given(worlds)
def test_maps_come_back_from_json_as_they_were(maps: Maps) -> None:
    told = json.loads(json.dumps(plain(maps)))
    assert maps_of(told) == maps
    assert entries(maps) == sum(map(len, told.values()))
