"""Runs serve with rubbish at info, prints all lines."""
import asyncio, json, os, socket, sys, time, pathlib, subprocess, tempfile
sys.path.insert(0, "/work/main")
import httpx2, pytest
from tests.support import SECRET, receiver_process, Database, eventually
from receiver.access.tokens import NotifyTokens, PROBE
from receiver.receipts.probed import body_of
from tests.sending.platforms import sms
NUM="447700900077"; MARK="SECRETMARK"
def raw(port, data, wait=0.3):
    s=socket.create_connection(("127.0.0.1",port)); s.settimeout(2)
    try:
        s.sendall(data); time.sleep(wait); s.recv(4000)
    except OSError: pass
    finally: s.close()
def test_rubbish(database, tmp_path):
    key=database.key()
    with receiver_process(database,tmp_path) as r:
        port=int(r.url.rpartition(":")[2]); tok=NotifyTokens(SECRET).sign("default"); ptok=NotifyTokens(SECRET).sign(PROBE)
        c=r.client(key)
        for d in (b"\x00\x01 no\r\n\r\n", f"GET /notify/{tok}?x={NUM} HTTP/9.9\r\n\r\n".encode(), f"POST /notify/{tok} HTTP/1.1\r\nhost: x\r\ncontent-length: abc{NUM}\r\n\r\n{MARK}".encode(),
            f"POST /notify/{tok} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\ncontent-length: 20\r\n\r\n{MARK}".encode(),
            f"POST /notify/{tok} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ{NUM}\r\n".encode(),
            f"GET /v1/messages?destination={NUM} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".encode(),
            f"POST /notify/{tok} HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 5\r\n\r\n{MARK}".encode(),
            b"GET /"+b"a"*200000+b" HTTP/1.1\r\n\r\n", f"X-{MARK}: 1\r\n\r\n".encode(), b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            f"POST /notify/{ptok} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{MARK}".encode()):
            raw(port,d)
        for m in ("GET","POST","PUT","PATCH","DELETE","TRACE","HEAD"):
            for p in (f"/notify/{tok}x",f"/{NUM}",f"/v1/messages/{NUM}",f"/v1/messages?destination={NUM}&zz={MARK}",f"/v1/messages/{MARK}%00",f"/v1/messages?correlationid=%00&x=%ff",f"/v1/messages?limit={NUM}99999999999999999"):
                c.request(m,p,content=MARK.encode()*3)
        for body in (b"",b"\xff\xfe",b"{",b"[]",b"null",b'{"deliveryInfoNotification":null}',("{\"deliveryInfoNotification\":{\"deliveryInfo\":{\"destination\":\"%s\",\"deliveryStatus\":\"\\u0000\",\"deliveryChannel\":\"SMS\"},\"callbackData\":\"%s\\u0000\",\"transid\":\"\\ud800\"}}"%(NUM,MARK)).encode(), b"["*100000):
            print(body[:20], httpx2.post(f"{r.url}/notify/{tok}",content=body,trust_env=False).status_code)
            c.post("/v1/messages",content=body); c.post("/v1/events",content=body); c.post("/v1/messages/sent",content=body)
        c.post("/v1/messages",json={**sms(NUM),"callbackData":MARK+"\u0000"})
        c.post("/v1/messages",json={**sms(NUM),"notifyurl":f"http://u:{MARK}@127.0.0.1/{MARK}"})
        x=c.post("/v1/messages",json=sms(NUM)); mid=x.json()["messages"][0]["id"]
        for q in (f"alter table message_state add constraint secretive check (state < 99 or state is null)",f"alter table receipt add constraint odd check (octet_length(raw) < 10) not valid", f"alter table quarantine rename to other"):
            try: database.fetch(q)
            except Exception as e: print("sql", type(e), e)
        for i in range(3):
            b={"deliveryInfoNotification":{"deliveryInfo":{"deliveryChannel":"SMS","deliveryStatus":"Delivered","destination":NUM},"callbackData":MARK,"correlationid":mid,"transid":f"t{MARK}{i}"}}
            print(httpx2.post(f"{r.url}/notify/{tok}",json=b,trust_env=False,timeout=20).status_code)
        print(httpx2.post(f"{r.url}/notify/{tok}",content=f"junk {MARK} {NUM}",trust_env=False,timeout=20).status_code)
        database.fetch("alter table message rename column destination to d2")
        for p in (f"/v1/messages/{mid}",f"/v1/messages?destination={NUM}",f"/v1/messages/{mid}/timeline"):
            print(p, c.get(p).status_code)
        print(c.post("/v1/messages",json=sms(NUM)).status_code)
        print(httpx2.post(f"{r.url}/notify/{tok}",json=b,trust_env=False,timeout=20).status_code)
        time.sleep(4)
        text=r.log.read_text()
    text=r.log.read_text()
    for l in text.splitlines(): print("LINE", l[:1500])
    for bad in (NUM,MARK,tok,ptok,key,SECRET):
        if bad in text: print("LEAK", bad[:12])
    for l in text.splitlines(): json.loads(l)
