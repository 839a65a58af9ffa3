from collections.abc import Iterator
import pytest, time
from tests.panels.watched_timed import Watched, has_data, watched
from tests.support import cloned
@pytest.fixture(scope="module")
def seen(postgres, template, tmp_path_factory):
    t=time.time()
    with cloned(postgres, template, "panels") as database, watched(database, tmp_path_factory.mktemp("panels")) as made:
        print("SETUP", time.time()-t)
        yield made
def test_try(seen):
    import subprocess
    __import__("pathlib").Path("/tmp/scrape.txt").write_text(__import__("httpx2").get(seen.living.receiver.url+"/metrics",trust_env=False).text)
    assert 0
