#!/bin/sh
# Builds the image and tries what docs/deploy.md promises of it. It wants curl, and leaves nothing but the image.
#   deploy/smoke.sh                                 with docker and port 8000 of loopback
#   ENGINE=podman PORT=9000 deploy/smoke.sh         with others
#   IMAGE=receiver:0.1.0 deploy/smoke.sh            of an image that is there already
set -eu
cd "$(dirname "$0")/.."
engine=${ENGINE:-docker} image=${IMAGE:-} url=http://127.0.0.1:${PORT:-8000} name=receiver-smoke-$$

clean() { $engine rm --force $name; $engine volume rm $name; } >/dev/null 2>&1
trap '[ $? = 0 ] || echo "the image is not as the page says: sh -x deploy/smoke.sh tells where" >&2; clean || :' EXIT
trap 'exit 1' INT TERM

# start FLAGS… IMAGE WORDS…: as the page says, but with every capability dropped
start() {
    $engine run --read-only --init --cap-drop ALL --security-opt no-new-privileges --volume $name:/var/lib/receiver \
        --env RECEIVER_DATA_DIR=/var/lib/receiver/data --env RECEIVER_PUBLIC_URL=https://receipts.example.com "$@"
}
ready() { curl --silent --fail --retry 60 --retry-delay 1 --retry-all-errors --output /dev/null "$url/readyz"; }
stop() {
    $engine stop -t 30 $name >/dev/null
    code=$($engine inspect --format '{{.State.ExitCode}}' $name)
    [ "$code" = 0 ] || { echo "it ended with $code"; exit 1; }
}
is_there() {
    curl --silent --fail --header "Authorization: Bearer $key" "$url/v1/messages?transid=smoke" | grep -q '"delivered"'
}

[ -n "$image" ] || { image=receiver && $engine build --tag $image .; }
start --rm "$image" migrate
start --detach --name $name --publish "${url#http://}:8000" "$image" >/dev/null
ready
token=$($engine exec $name receiver notify-url | sed 's,.*/,,')
key=$($engine exec $name receiver keys create --name smoke 2>/dev/null)
curl --silent --fail "$url/notify/$token" --header 'Content-Type: application/json' --data '{"deliveryInfoNotification":
    {"deliveryInfo": {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900123",
    "transid": "smoke", "correlationid": "smoke", "code": "7500", "timestamp": "2026-01-05T12:00:00Z"}}}'
is_there
[ "$($engine exec $name id -u)" = 10001 ]
stop                                     # SIGTERM
$engine start $name >/dev/null && ready && is_there
$engine kill $name >/dev/null            # SIGKILL
$engine start $name >/dev/null && ready && is_there
stop
echo "the image is as the page says"
