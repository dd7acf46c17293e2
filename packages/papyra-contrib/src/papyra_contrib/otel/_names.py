"""All names of spans, attributes and metrics.

Those that begin with ``messaging.`` or ``error.`` come from OpenTelemetry's semantic conventions, version
1.43.0. Their messaging part is in development. If a later version renames them, only this module changes.
"""

from __future__ import annotations

__all__ = ["CONVENTIONS_VERSION", "SCHEMA_URL"]

CONVENTIONS_VERSION = "1.43.0"
SCHEMA_URL = f"https://opentelemetry.io/schemas/{CONVENTIONS_VERSION}"

SCOPE = "papyra"
"""The instrumentation scope of our tracer and meter."""

SYSTEM = "messaging.system"
PAPYRA = "papyra"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
TYPE_SEND = "send"
TYPE_PROCESS = "process"
DESTINATION = "messaging.destination.template"
ERROR_TYPE = "error.type"

ACTOR_ADDRESS = "papyra.actor.address"
ACTOR_NAME = "papyra.actor.name"
MESSAGE_TYPE = "papyra.message.type"
MAILBOX_WAIT = "papyra.mailbox.wait"

SYSTEM_ID = "papyra.system"

SENT_MESSAGES = "messaging.client.sent.messages"
CONSUMED_MESSAGES = "messaging.client.consumed.messages"
PROCESS_DURATION = "messaging.process.duration"
