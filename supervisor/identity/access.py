"""Who may touch what. Pure; every route and the executor ask here and nowhere else."""

from __future__ import annotations

from supervisor.execution.values import Owner, Principal


def owner_of(
    principal: Principal, *, kind: str | None = None, resource_id: str | None = None, version: int | None = None
) -> Owner:
    """Decide to whom something that ``principal`` makes will belong.

    Agents and skills are shared inside their tenant. For ``user`` (and for no kind) the caller's own identity wins over
    the id it sent; the id counts only when the caller named nobody.
    """
    if kind in ("agent", "skill") and resource_id:
        return Owner(principal.tenant, kind, resource_id, version if kind == "skill" else None)
    user = principal.user or (resource_id if kind == "user" else None)
    return Owner(principal.tenant, "user", user) if user else Owner(principal.tenant, "tenant")


def may_use(principal: Principal, owner: Owner) -> bool:
    """Say whether ``principal`` may see, read, change and delete what belongs to ``owner``.

    A caller that names no user speaks for its whole tenant: LibreChat's downloads and its bash tool carry none, and
    the unguessable ids are all the protection that its contract gives there.
    """
    if principal.tenant != owner.tenant:
        return False
    return owner.kind != "user" or principal.user is None or principal.user == owner.id
