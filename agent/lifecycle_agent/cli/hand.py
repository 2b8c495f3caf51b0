"""What the commands that talk to the group by hand need: which group, which hook."""

from __future__ import annotations

from lifecycle_agent import config
from lifecycle_agent.cli import Settings
from lifecycle_agent.clients.autoscaling import AutoScaling
from lifecycle_agent.config import AgentSection, HooksSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.files import state_dir
from lifecycle_agent.journal import Journal, boot_id
from lifecycle_agent.model import LifecycleTransition, Machine, NoticeKind
from lifecycle_agent.standing import Phase, standing
from lifecycle_agent.transition.completion import choose_hook
from lifecycle_agent.watch.imds import MetadataClient

SECONDS = 20.0  # for all calls of one command together: somebody sits before it


class Hand:
    """The group that this instance is in and our hook for the state it is in.

    Raises:
        LifecycleAgentError: the instance is in no group, or there is no hook of ours.
    """

    def __init__(self, settings: Settings) -> None:
        # An answer by hand is a last resort: what is wrong in other sections does not stop it.
        hooks = config.part(settings.path, "hooks", HooksSection)
        machine = MetadataClient().machine()
        self.deadline = Deadline.after(SECONDS)
        self.client = AutoScaling(machine.region, machine.instance_id)
        membership = self.client.membership(self.deadline)
        if membership is None:
            raise LifecycleAgentError(
                f"no Auto Scaling group knows instance {machine.instance_id}", "there is nothing to answer"
            )
        self.group = membership.group
        # Into the warm pool either hook may ask: that of a new instance, or that of one that goes back.
        into_pool = membership.state.word.startswith("Warmed:Pending")
        back = into_pool and self._goes_back(settings, machine)
        launching = "Pending" in membership.state.word and not back
        kind = LifecycleTransition.LAUNCHING if launching else LifecycleTransition.TERMINATING
        configured = hooks.launch if launching else hooks.terminate
        hook = choose_hook(self.client.hooks(self.group, self.deadline), configured, kind)
        if hook is None:
            raise LifecycleAgentError(
                f"group {self.group} has no lifecycle hook of transition {kind.value}",
                "create one, or name it under [hooks] in the configuration",
            )
        self.hook = hook

    @staticmethod
    def _goes_back(settings: Settings, machine: Machine) -> bool:
        """Whether it has been in service, by its journal."""
        agent = config.part(settings.path, "agent", AgentSection)
        history = Journal(state_dir(agent.state_dir), machine.instance_id).history()
        now = standing(history, boot_id())
        return now.kind is NoticeKind.ENTER_POOL or now.phase not in (Phase.NEW, Phase.POOLED)
