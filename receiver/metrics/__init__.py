"""What Prometheus scrapes: the names and labels of this process's figures. Knows no room; docs/metrics.md lists all.

Changes are counted, not tellings: a receipt told again changes nothing. Labels are words of our own tables.
"""

from receiver.metrics.harmless import harmless as harmless
from receiver.metrics.intake import *  # noqa: F403
from receiver.metrics.messages import *  # noqa: F403
from receiver.metrics.probe import *  # noqa: F403
from receiver.metrics.registry import CONTENT_TYPE as CONTENT_TYPE
from receiver.metrics.registry import REGISTRY as REGISTRY
from receiver.metrics.registry import UNKNOWN as UNKNOWN
from receiver.metrics.registry import scrape as scrape
from receiver.metrics.registry import scrape_in_turns as scrape_in_turns
from receiver.metrics.sending import *  # noqa: F403
from receiver.metrics.service import *  # noqa: F403
from receiver.metrics.times import Times as Times
