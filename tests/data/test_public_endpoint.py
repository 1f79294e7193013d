from components.core.store import open_store


def test_stores_at_aws_itself_open_without_an_endpoint(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "PUBLIC_SOURCE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert open_store("s3://aft-vbi-pds").access.endpoint is None
    assert open_store("s3://models").access.endpoint is None
