"""The usual way, to compare with: FastAPI, pydantic models, the SQLAlchemy ORM, one transaction a request.

Tables of its own with no more than it needs, a session a request. It keeps what ours keeps: the receipt with its body,
once, however often it is told; the message's state; a row of the change log; a row of the ledger.
"""

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from fastapi import Depends, FastAPI, Request, Response
from pydantic import BaseModel
from sqlalchemy import DateTime, ForeignKey, Identity, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

RANKS = {"Queued": 10, "Submitted": 20, "Failed": 46, "Delivered": 60, "Read": 70}


class Base(DeclarativeBase):
    """Its tables."""


class UsualMessage(Base):
    """A message and its state."""

    __tablename__ = "usual_message"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    destination: Mapped[str]
    transid: Mapped[str]
    state: Mapped[int] = mapped_column(default=10)
    changed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class UsualReceipt(Base):
    """A receipt of a message."""

    __tablename__ = "usual_receipt"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    message_id: Mapped[UUID] = mapped_column(ForeignKey("usual_message.id"), index=True)
    status: Mapped[str]
    code: Mapped[str | None]
    description: Mapped[str | None]
    transid: Mapped[str]
    told_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    fingerprint: Mapped[bytes] = mapped_column(unique=True)
    raw: Mapped[bytes]


class UsualChange(Base):
    """A change of a message."""

    __tablename__ = "usual_change"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    message_id: Mapped[UUID]
    old_state: Mapped[int]
    new_state: Mapped[int]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class UsualIntake(Base):
    """What came of a request."""

    __tablename__ = "usual_intake"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    applied: Mapped[int]
    duplicate: Mapped[int]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class DeliveryInfo(BaseModel):
    """What happened."""

    deliveryStatus: str
    destination: str
    code: str | None = None
    Description: str | None = None
    timeStamp: datetime | None = None


class Notification(BaseModel):
    """Of which message."""

    deliveryInfo: DeliveryInfo
    transid: str
    correlationid: UUID
    callbackData: str = ""


class Told(BaseModel):
    """A body."""

    deliveryInfoNotification: Notification


def engine_of(dsn: str, pool: int) -> AsyncEngine:
    """SQLAlchemy on asyncpg, over the same socket as everybody."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query).get("host", [parts.hostname or "127.0.0.1"])[0]
    url = f"postgresql+asyncpg://{parts.username}:{parts.password}@{parts.path}?host={host}"
    return create_async_engine(url, pool_size=pool, max_overflow=0)


async def make_tables(dsn: str) -> None:
    """Makes the tables, when they are missing."""
    engine = engine_of(dsn, 1)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


async def build(dsn: str, pool: int) -> FastAPI:
    """The application."""
    app = FastAPI()
    sessions = async_sessionmaker(engine_of(dsn, pool), expire_on_commit=False)

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    @app.post("/notify/{token}")
    async def notify(
        token: str, told: Told, request: Request, db: Annotated[AsyncSession, Depends(session)]
    ) -> Response:
        raw = await request.body()
        async with db.begin():
            applied = await keep(db, told.deliveryInfoNotification, raw)
            db.add(UsualIntake(applied=int(applied), duplicate=int(not applied)))
        return Response("stored\n", media_type="text/plain")

    return app


async def keep(db: AsyncSession, notification: Notification, raw: bytes) -> bool:
    """Stores the receipt and what it changes; False if it was told before."""
    info = notification.deliveryInfo
    message = await db.get(UsualMessage, notification.correlationid, with_for_update=True)
    if message is None:
        return False
    fingerprint = hashlib.sha256(raw).digest()
    if await db.scalar(select(UsualReceipt.id).where(UsualReceipt.fingerprint == fingerprint)):
        return False
    db.add(
        UsualReceipt(
            message_id=message.id,
            status=info.deliveryStatus,
            code=info.code,
            description=info.Description,
            transid=notification.transid,
            told_at=info.timeStamp,
            fingerprint=fingerprint,
            raw=raw,
        )
    )
    rank = RANKS.get(info.deliveryStatus, 0)
    if rank > message.state:
        db.add(UsualChange(message_id=message.id, old_state=message.state, new_state=rank))
        message.state = rank
        message.changed_at = info.timeStamp
    return True
