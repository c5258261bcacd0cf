"""Tell the deployed configuration.

Trigger: `holdfast policy plan`.
Event: {}
Response: {"version": "1.0.0", "configuration": {...}}
Touches: nothing.
Retry: answers the same again.
"""

from holdfast.edge import entrypoint
from holdfast.operations.coverage.show_configuration import ShowConfiguration, show_configuration

handler = entrypoint(ShowConfiguration, show_configuration)
