# The receiver with its embedded Postgres, for `docker run --read-only --init`: docs/deploy.md.
#
# One volume: /var/lib/receiver. It holds the spool and, where RECEIVER_DATA_DIR=/var/lib/receiver/data, the database.

FROM python:3.11-slim AS build

WORKDIR /source
RUN python -m venv --without-pip /opt/receiver
COPY constraints.txt pyproject.toml README.md LICENSE CHANGELOG.md alembic.ini ./
COPY migrations migrations
COPY receiver receiver
RUN pip --python /opt/receiver/bin/python install --no-cache-dir --constraint constraints.txt '.[embedded]'


FROM python:3.11-slim

# Postgres asks for the name of its user, so there is one. The number is for the volume's owner. No --system: it
# warns of such a number, and takes the next free one for the group.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin receiver \
 && install --directory --owner=receiver --group=receiver --mode=0700 /var/lib/receiver
COPY --from=build /opt/receiver /opt/receiver

ENV PATH=/opt/receiver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RECEIVER_HOST=0.0.0.0 \
    RECEIVER_PORT=8000 \
    RECEIVER_SPOOL=/var/lib/receiver/spool

# By its number: Kubernetes' runAsNonRoot does not believe a name.
USER 10001
WORKDIR /
VOLUME /var/lib/receiver
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"RECEIVER_PORT\"]}/livez', timeout=2)"]
ENTRYPOINT ["receiver"]
CMD ["serve"]
