from tabard.process.failures import leaves


def test_each_error_is_found_however_deep_it_lies() -> None:
    one, two, three = ValueError("1"), OSError("2"), OSError("3")
    group = ExceptionGroup("", [one, ExceptionGroup("", [ExceptionGroup("", [two]), three])])
    assert list(leaves(group)) == [one, two, three]
