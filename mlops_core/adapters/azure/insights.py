"""Application Insights: where traces go, and how log lines say which run they are about."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from opentelemetry.sdk.trace.export import SpanExporter

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def insights_exporter(connection_string: str, credential: TokenCredential | None) -> SpanExporter:
    """Make the genuine exporter of Azure Monitor; spans that cannot be sent are kept on disk by it and sent later."""
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

    options = {"credential": credential} if credential is not None else {}
    exporter: SpanExporter = AzureMonitorTraceExporter(connection_string=connection_string, **options)
    return exporter


class FieldsInMessage(logging.Filter):
    """Writes a record's fields, such as the run's id, behind its message: the Functions host sends the message only."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record once; it is never held back."""
        fields = {
            key: value for key, value in vars(record).items() if key not in _OWN_FIELDS and not key.startswith("_")
        }
        if fields and not getattr(record, "_headrace_told", False):
            record.msg = f"{record.getMessage()} {' '.join(f'{key}={value}' for key, value in fields.items())}"
            record.args = ()
            record._headrace_told = True  # noqa: SLF001 - a mark of ours, so that two handlers write it once
        return True


def write_fields(logger: logging.Logger) -> None:
    """Have every handler of a logger write the fields of records."""
    for handler in logger.handlers:
        if not any(isinstance(known, FieldsInMessage) for known in handler.filters):
            handler.addFilter(FieldsInMessage())
