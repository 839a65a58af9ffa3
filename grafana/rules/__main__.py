"""Prints the rules: `python -m grafana.rules --scale 60` for a trial in which an hour is a minute."""

import argparse

from grafana.rules import text


def main() -> None:
    """Reads the options and prints the file."""
    parser = argparse.ArgumentParser(prog="python -m grafana.rules", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="divide every time by this")
    parser.add_argument(
        "--floor-seconds", type=float, default=None, help="no range is shorter (8 where times are scaled)"
    )
    options = parser.parse_args()
    print(text(options.scale, options.floor_seconds), end="")


if __name__ == "__main__":
    main()
