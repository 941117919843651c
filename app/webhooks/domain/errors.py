"""What can go wrong with webhooks."""

from core.errors import Invalid, NotFound


class WebhookNotFound(NotFound):
    code = "not_found"


class EventNotAllowed(Invalid):
    title = "This kind of caller is not told of this event"


class WebhookDisabled(Invalid):
    """Nothing is sent to it until its owner sets it to active."""

    code = "validation_failed"
    title = "The webhook is disabled: set its status to active first"

    def __init__(self) -> None:
        super().__init__(pointer="/status", rule="webhook_disabled")


class TooManyWebhooks(Invalid):
    code = "validation_failed"
    title = "There are as many webhooks as one owner may have"

    def __init__(self) -> None:
        super().__init__(rule="too_many_webhooks")
