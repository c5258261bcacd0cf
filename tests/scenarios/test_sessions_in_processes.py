"""A session whose functions run as Lambda runs them: the deployed archive, a process each, capped memory."""

from __future__ import annotations

from holdfast.model.session import State
from tests.scenarios.conftest import Installation, block


def test_a_session_of_isolated_functions_backs_up_what_the_guests_wrote(installation: Installation):
    volumes = installation.volumes("web")
    for volume_id in volumes.values():
        installation.sim.ebs.write_blocks(volume_id, 7, block(volume_id))
    before = {one: installation.sim.ebs.volume_content(one).sha256() for one in volumes.values()}
    installation.sim.lambdas.isolate()

    installation.run_until(7)

    assert dict(installation.sim.lambdas.errors) == {}
    (session,) = installation.sessions()
    assert (session.state, session.counts["success"]) == (State.SUCCESS, 3)
    (full,) = installation.manifests("web")
    assert {one: installation.stored_sha256(full, one) for one in volumes.values()} == before
    assert installation.sim.recorder.violations() == []
