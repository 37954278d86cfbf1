"""The deployment as a whole: work pool, queues, what prefect.yaml deploys, and the automations that look after it."""

import asyncio
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

from prefect import get_client
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, SendNotification, SequenceTrigger
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.process import ProcessWorker
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.yaml_text import to_yaml
from gan.errors import UserError

_POOL = "pipeline"  # in prefect.yaml
QUEUES = {"gpu": 1, "cpu": 2}  # name -> priority: a worker of both takes what needs a GPU first
HEARTBEAT_SECONDS = 30  # of the runs of `gan worker`
_DEAD, _BAD, _GOOD = "pipeline: runs that died", "pipeline: tell of what is wrong", "pipeline: tell that it is good again"
AUTOMATIONS = (_DEAD,)
_BAD_STATES = {f"prefect.flow-run.{name}" for name in ("Worse", "Failed", "Crashed", "NotPushed", "TimedOut")}
_BODY = """{{ flow_run.state.message }}

pictures, metrics and log: {{ flow_run|ui_url }}
"""


def install(repository, *, pool, silent_seconds, webhook=None, mail=None):
    """Make or renew all of it; returns a line for each thing. webhook, mail: who is told, see `_blocks`. Raises UserError."""
    _require_addresses(webhook, mail)
    lines = asyncio.run(_make_pool(pool))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(_in_pool((repository.root / "prefect.yaml").read_text(encoding="utf-8"), pool), encoding="utf-8")
        deploy = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        done = subprocess.run(deploy, cwd=repository.root, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise UserError(f"prefect deploy: {' '.join((done.stdout + done.stderr).split())[-500:]}")
    lines.append("what prefect.yaml deploys")
    blocks = _blocks(webhook, mail)
    automations = [_crash_the_dead(silent_seconds), *(_tell(blocks) if blocks else [])]
    asyncio.run(_install(automations))
    return [*lines, *(f"the automation {automation.name}" for automation in automations)]


def _in_pool(text, pool):
    """prefect.yaml's `text` with `pool` in place of the pool "pipeline"; a deployment in a pool of another name stays there."""
    yaml = YAML()
    yaml.preserve_quotes = True  # Prefect reads an older YAML, in which more words need them
    try:
        content = yaml.load(text)
        for deployment in content["deployments"]:
            work_pool = deployment.get("work_pool") or {}
            if work_pool.get("name") == _POOL:
                work_pool["name"] = pool
    except (YAMLError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"prefect.yaml: {error}") from None
    return to_yaml(content)


async def _make_pool(pool):
    async with get_client() as client:
        try:
            await client.read_work_pool(pool)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            await client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        for name, priority in QUEUES.items():
            try:
                await client.create_work_queue(name=name, priority=priority, work_pool_name=pool)
            except ObjectAlreadyExists:
                queue = await client.read_work_queue_by_name(name, work_pool_name=pool)
                await client.update_work_queue(queue.id, priority=priority)
    return [f"the work pool {pool} with the queues {', '.join(QUEUES)}"]


async def _install(automations):
    async with get_client() as client:
        for automation in automations:
            there = await client.read_automations_by_name(automation.name)
            for old in there:
                await client.delete_automation(old.id)
            await client.create_automation(automation)


def _crash_the_dead(silent_seconds):
    """A run whose worker has died says nothing more; as Crashed it holds no slot, and the next one goes on from there."""
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},  # another heartbeat, or any state: the flow has final states with names of its own
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=silent_seconds,
    )
    message = f"nothing was heard of it for {silent_seconds} s: its process or its machine has ended"
    return AutomationCore(name=_DEAD, trigger=trigger, actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)])


def _require_addresses(webhook, mail):
    """Refuse what no message could be sent to, before anything is installed. Neither is shown whole: it may hold a password."""
    if webhook:
        try:
            parts = urllib.parse.urlsplit(webhook)
            good = parts.scheme in ("http", "https") and parts.hostname
        except ValueError:
            good = False
        if not good:
            raise UserError("--webhook: expected an address such as https://HOST/PATH")
    if mail and not mail.startswith(("mailto://", "mailtos://")):
        raise UserError(f"--mail {mail.partition(':')[0]}:…: expected mailto://USER:PASSWORD@HOST?from=…&to=…")


def _blocks(webhook, mail):
    """The ids of Prefect's blocks for `webhook`, an address that gets JSON, and `mail`, an Apprise address: mailto://…"""
    made = []
    if webhook:
        content = {"subject": "{{subject}}", "body": "{{body}}"}
        made.append(
            CustomWebhookNotificationBlock(name="pipeline", url=webhook, json_data=content).save("webhook", overwrite=True)
        )
    if mail:
        # Prefect has no block for plain mail; this one hands any address that is not Slack's to Apprise
        made.append(SlackWebhook(url=mail).save("mail", overwrite=True))
    return made


def _tell(blocks):
    """Automations that tell of a run that went wrong, and of the first one after it that went well."""

    def ends(states):
        return EventTrigger(
            expect=states,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": "pipeline"},
            posture=Posture.Reactive,
            threshold=1,
        )

    def send(subject):
        return [SendNotification(block_document_id=block, subject=subject, body=_BODY) for block in blocks]

    good = SequenceTrigger(triggers=[ends(_BAD_STATES), ends({"prefect.flow-run.Completed"})], within=None)
    return [
        AutomationCore(name=_BAD, trigger=ends(_BAD_STATES), actions=send("{{ flow_run.name }} is {{ flow_run.state.name }}")),
        AutomationCore(name=_GOOD, trigger=good, actions=send("{{ flow_run.name }}: good again")),
    ]
