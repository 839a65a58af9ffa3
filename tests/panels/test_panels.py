from collections.abc import Iterator
import pytest
from grafana.queries import filled, expressions
from tests.panels.questions import *
from tests.panels.watched import Watched, has_data, watched
from tests.support import cloned
import time

@pytest.fixture(scope="module")
def seen(postgres: str, template: str, tmp_path_factory) -> Iterator[Watched]:
    t=time.time()
    with cloned(postgres, template, "panels") as database, watched(database, tmp_path_factory.mktemp("panels")) as made:
        print("SETUP", time.time()-t)
        yield made

def test_try(seen):
    t=time.time()
    for q in questions("expr"):
        for tenants in ((), ("shop",)):
            e=filled(q.target["expr"], chosen(seen,q.dashboard,tenants))
            try:
                got = seen.at_once(e) if q.once else seen.over_the_day(e)
                if not has_data(got): print("EMPTY", tenants, q.where)
            except AssertionError as x: print("ERR", q.where, x)
    print("TOOK", time.time()-t); t=time.time()
    for a, e in alerts():
        try:
            got=seen.over_the_day(e)
            if got:
                print("ALERT", a)
                for g in got[:6]: print("     ", g["metric"], len(g["values"]), (g["values"][0][0]-seen.begin.timestamp())/60, (g["values"][-1][0]-seen.begin.timestamp())/60)
        except AssertionError as x: print("ERR", a, x)
    print("TOOK", time.time()-t); t=time.time()
    for w,e in expressions():
        if "alerts/" in w:
            for p in parts(e):
                if not has_data(seen.over_the_day(p)): print("NOPART", w, p)
            if ":receiver_" in w.split(": ",1)[1] and not has_data(seen.at_once(e)): print("NORECORD", w)
    print("TOOK", time.time()-t); t=time.time()
    assert 0
