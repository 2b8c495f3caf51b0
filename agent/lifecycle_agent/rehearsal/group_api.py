"""The emulated group's API: moto's Auto Scaling, with the lifecycle that moto lacks.

What concerns our group is answered from its model; everything else (groups made through the API,
tags, policies) and every other service, S3 above all, is moto's own.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Any, Protocol

from flask import Flask
from moto.autoscaling.exceptions import AutoscalingClientError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import convert_to_flask_response
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from lifecycle_agent import model as nouns
from lifecycle_agent.rehearsal.group_faults import Fault
from lifecycle_agent.rehearsal.group_model import GroupModel
from lifecycle_agent.rehearsal.lifecycle import Member, Refusal

# HeartbeatTimeout of PutLifecycleHook: "The range is from 30 to 7200 seconds", 3600 by default.
HEARTBEAT_LEAST, HEARTBEAT_MOST, HEARTBEAT_DEFAULT = 30, 7200, 3600
HOOKS_MOST = 50  # "Lifecycle hooks per Auto Scaling group" in the service's quotas
PAGE = 50  # MaxRecords of DescribeAutoScalingInstances, the default and the most


class Behind(Protocol):
    """What the API needs of the group behind it."""

    @property
    def name(self) -> str:
        """The group's name."""
        ...

    @property
    def region(self) -> str:
        """Its region."""
        ...

    def turn(self) -> AbstractContextManager[GroupModel]:
        """The model, for oneself alone."""
        ...

    def fault(self, operation: str) -> Fault | None:
        """What is to go wrong with this call."""
        ...

    def note(self, operation: str, outcome: str, parameters: dict[str, Any]) -> None:
        """Put a call on record."""
        ...


class GroupResponse(AutoScalingResponse):  # type: ignore[misc, unused-ignore]
    """moto's answers, and ours. `behind` is set by `group_app` in a subclass for each group."""

    behind: Behind

    def call_action(self) -> TYPE_RESPONSE:
        """Answer one call, or let it fail as asked for."""
        operation = self._get_action()
        fault = self.behind.fault(operation)
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        answer: TYPE_RESPONSE
        if fault is None or not fault.code:
            answer = super().call_action()
        else:
            if fault.after:
                super().call_action()
            answer = fault.answer(operation, self._get_param("InstanceId", "i-unknown"))
        refused = re.search(r"<Code>(.*?)</Code>", str(answer[2])) if answer[0] >= 400 else None
        self.behind.note(operation, refused.group(1) if refused else "ok", dict(self._get_params()))
        return answer

    # -- lifecycle actions

    def complete_lifecycle_action(self) -> ActionResult:
        """CompleteLifecycleAction."""
        try:
            result = nouns.ActionResult(self._get_param("LifecycleActionResult"))
        except ValueError:
            raise _refused("Lifecycle Action Result must be CONTINUE or ABANDON.") from None
        return self._on_action(lambda group, hook, who: group.complete(hook, result, **who))

    def record_lifecycle_action_heartbeat(self) -> ActionResult:
        """RecordLifecycleActionHeartbeat."""
        return self._on_action(lambda group, hook, who: group.heartbeat(hook, **who))

    def _on_action(self, do: Callable[[GroupModel, str, dict[str, str]], None]) -> ActionResult:
        self._check_group()
        instance_id, token = self._get_param("InstanceId", ""), self._get_param("LifecycleActionToken", "")
        try:
            with self.behind.turn() as group:
                do(group, self._get_param("LifecycleHookName"), {"instance_id": instance_id, "token": token})
        except Refusal as error:
            raise AutoscalingClientError(error.code, error.message) from None
        return EmptyResult()

    # -- instances

    def describe_auto_scaling_instances(self) -> ActionResult:
        """DescribeAutoScalingInstances, a page at a time."""
        wanted = self._get_param("InstanceIds", [])
        with self.behind.turn() as group:
            ours = [self._instance(member, self.behind.name) for member in group.present()]
        theirs = self.autoscaling_backend.describe_auto_scaling_instances(instance_ids=wanted)
        found = [one for one in ours if not wanted or one["InstanceId"] in wanted] + list(theirs)
        token, size = self._get_param("NextToken", "0"), self._get_int_param("MaxRecords", PAGE)
        if not token.isdigit():
            raise AutoscalingClientError("InvalidNextToken", "The NextToken value is not valid.")
        start, end = int(token), int(token) + min(size, PAGE)
        more = str(end) if end < len(found) else None
        return ActionResult({"AutoScalingInstances": found[start:end], "NextToken": more})

    def describe_auto_scaling_groups(self) -> ActionResult:
        """DescribeAutoScalingGroups: ours first, then moto's."""
        answer: Any = super().describe_auto_scaling_groups()
        names = self._get_param("AutoScalingGroupNames", [])
        if not names or self.behind.name in names:
            with self.behind.turn() as group:
                ours = self._group(group)
            answer.result["AutoScalingGroups"] = [ours, *answer.result["AutoScalingGroups"]]
        return answer  # type: ignore[no-any-return]

    def terminate_instance_in_auto_scaling_group(self) -> ActionResult:
        """TerminateInstanceInAutoScalingGroup: the way through the terminating hooks begins."""
        instance_id = self._get_param("InstanceId", "")
        with self.behind.turn() as group:
            if instance_id not in group.members and instance_id in _known_to_moto(self):
                return super().terminate_instance_in_auto_scaling_group()
            try:
                group.terminate(instance_id)
            except Refusal as error:
                raise AutoscalingClientError(error.code, error.message) from None
        activity = {
            "ActivityId": str(uuid.uuid4()),
            "AutoScalingGroupName": self.behind.name,
            "Description": f"Terminating EC2 instance: {instance_id}",
            "Cause": f"At {_now():%Y-%m-%dT%H:%M:%SZ} instance {instance_id} was taken out of service "
            "in response to a user request.",
            "StartTime": _now(),
            "StatusCode": "InProgress",
            "Progress": 0,
        }
        return ActionResult({"Activity": activity})

    def _instance(self, member: Member, group: str | None = None) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "InstanceId": member.instance_id,
            "InstanceType": "t3.micro",
            "AvailabilityZone": f"{self.behind.region}a",
            "LifecycleState": member.state,
            "HealthStatus": "Healthy" if group is None else "HEALTHY",  # the two operations differ in this
            "ProtectedFromScaleIn": False,
        }
        return shown if group is None else {**shown, "AutoScalingGroupName": group}

    def _group(self, group: GroupModel) -> dict[str, Any]:
        members = group.present()
        serving = [m for m in members if m.state == "InService" or m.state.startswith("Pending")]
        retention = "retain" if group.retain_on_abandon else "terminate"
        arn = f"arn:aws:autoscaling:{self.behind.region}:{self.current_account}:autoScalingGroup"
        return {
            "AutoScalingGroupName": self.behind.name,
            "AutoScalingGroupARN": f"{arn}:{uuid.UUID(int=0)}:autoScalingGroupName/{self.behind.name}",
            "MinSize": 0,
            "MaxSize": len(members) + 1,
            "DesiredCapacity": len(serving),
            "DefaultCooldown": 300,
            "AvailabilityZones": [f"{self.behind.region}a"],
            "HealthCheckType": "EC2",
            "HealthCheckGracePeriod": 0,
            "CreatedTime": _now(),
            "Instances": [self._instance(member) for member in members],
            "InstanceLifecyclePolicy": {"RetentionTriggers": {"TerminateHookAbandon": retention}},
        }

    # -- hooks

    def put_lifecycle_hook(self) -> ActionResult:
        """PutLifecycleHook, within the limits of the real one."""
        if not self._ours():
            return super().put_lifecycle_hook()
        name = self._get_param("LifecycleHookName")
        with self.behind.turn() as group:
            known = group.hooks.get(name)
            transition = self._get_param("LifecycleTransition") or (known and known.transition)
            timeout = self._get_int_param("HeartbeatTimeout")
            if timeout is None:
                timeout = int(known.heartbeat_timeout) if known else HEARTBEAT_DEFAULT
            elif not HEARTBEAT_LEAST <= timeout <= HEARTBEAT_MOST:
                raise _refused(
                    f"Heartbeat Timeout must be between {HEARTBEAT_LEAST} and {HEARTBEAT_MOST} seconds."
                )
            default = self._get_param("DefaultResult") or (known and known.default_result) or "ABANDON"
            if known is None and len(group.hooks) >= HOOKS_MOST:
                raise AutoscalingClientError("LimitExceeded", f"More than {HOOKS_MOST} lifecycle hooks.")
            try:
                hook_for, result = nouns.LifecycleTransition(transition), nouns.ActionResult(default)
            except ValueError as error:
                raise _refused(f"{error}.") from None
            group.add_hook(name, hook_for, heartbeat_timeout=timeout, default_result=result)
        return EmptyResult()

    def describe_lifecycle_hooks(self) -> ActionResult:
        """DescribeLifecycleHooks, with the global timeout."""
        if not self._ours():
            return super().describe_lifecycle_hooks()
        wanted = self._get_param("LifecycleHookNames", [])
        with self.behind.turn() as group:
            hooks = [hook for name, hook in group.hooks.items() if not wanted or name in wanted]
        return ActionResult({"LifecycleHooks": [self._hook(hook) for hook in hooks]})

    def delete_lifecycle_hook(self) -> ActionResult:
        """DeleteLifecycleHook: open actions are answered first."""
        if not self._ours():
            return super().delete_lifecycle_hook()
        name = self._get_param("LifecycleHookName")
        with self.behind.turn() as group:
            if name not in group.hooks:
                raise _refused(f"No Lifecycle Hook found with name {name}")
            group.remove_hook(name)
        return EmptyResult()

    def _hook(self, hook: nouns.Hook) -> dict[str, Any]:
        return {
            "LifecycleHookName": hook.name,
            "AutoScalingGroupName": self.behind.name,
            "LifecycleTransition": hook.transition.value,
            "HeartbeatTimeout": int(hook.heartbeat_timeout),
            "GlobalTimeout": int(hook.global_timeout),
            "DefaultResult": hook.default_result.value,
        }

    # -- whose group it is

    def _ours(self) -> bool:
        """Whether the call is about our group.

        Raises:
            AutoscalingClientError: there is no such group, neither ours nor one of moto's.
        """
        name = self._get_param("AutoScalingGroupName")
        if name == self.behind.name:
            return True
        if name not in self.autoscaling_backend.autoscaling_groups:
            # The text as reported from the field; the documentation has none.
            raise _refused(f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
        return False

    def _check_group(self) -> None:
        if not self._ours():
            raise _refused("No active Lifecycle Action found: moto's own groups have none.")


def group_app(behind: Behind) -> DomainDispatcherApplication:
    """The WSGI application: our group's API and, by the service a request is signed for, moto's others."""

    class Response(GroupResponse):
        """One for each group: moto makes an instance of it for each call."""

    Response.behind = behind

    def create(service: Any) -> Flask:
        app = create_backend_app(service)
        if service == "autoscaling":
            answer = convert_to_flask_response(Response.dispatch)
            app.view_functions = dict.fromkeys(app.view_functions, answer)
        return app

    return DomainDispatcherApplication(create)


def _refused(message: str) -> AutoscalingClientError:
    return AutoscalingClientError("ValidationError", message)


def _known_to_moto(response: AutoScalingResponse) -> set[str]:
    return {str(one.instance_id) for one in response.autoscaling_backend.describe_auto_scaling_instances([])}


def _now() -> datetime:
    return datetime.now(timezone.utc)
