"""What the operator chose: whether it can be read, and what in it leaves a door open."""

from collections.abc import Sequence

from receiver.access.tenants import Tenants
from receiver.doctor.check import Installation, Verdict, failure, ok, warning
from receiver.platform.credentials import messaging_api_of, what_is_missing


async def settings(installation: Installation) -> Sequence[Verdict]:
    """Every bad value by its name; then tenants that can't send, and those whose token alone opens the door."""
    if installation.problems:
        return [
            failure(problem, "Correct it, or see docs/settings.md; `receiver serve` refuses to start with it.")
            for problem in installation.problems
        ]
    chosen = installation.chosen
    found = [ok(f"all good; tenants: {', '.join(tenant.name for tenant in chosen.tenants)}")]
    for tenant in chosen.tenants:
        if missing := what_is_missing(tenant, messaging_api_of(tenant)):
            found.append(warning("it can listen, not send", f"To send, set {missing}.", tenant.name))
    for said in Tenants(chosen.tenants).unprotected():
        what, _, names = said.partition(": set ")
        found.append(warning(what, f"Set {names}: docs/settings.md says what each costs."))
    return found
