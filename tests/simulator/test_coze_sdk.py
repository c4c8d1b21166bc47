"""The official Coze SDK cannot tell the simulator from Coze."""

import textwrap

CHATS = textwrap.dedent(
    """
    import json, os, tempfile
    from cozepy import (
        COZE_COM_BASE_URL, ChatEventType, ChatStatus, Coze, CozeAPIError, Message,
        MessageObjectString, MessageType, TokenAuth,
    )

    coze = Coze(auth=TokenAuth("pat_sdk"), base_url=os.environ["COZE_URL"])
    told = {}

    def ask(*messages, bot="1", **more):
        text, events, usage, conversation = "", [], None, None
        for event in coze.chat.stream(
            bot_id=bot, user_id="u", additional_messages=list(messages), **more
        ):
            events.append(event.event.value)
            if event.event == ChatEventType.CONVERSATION_MESSAGE_DELTA:
                text += event.message.content
            if event.event == ChatEventType.CONVERSATION_CHAT_COMPLETED:
                usage, conversation = event.chat.usage.token_count, event.chat.conversation_id
        return text, events, usage, conversation

    question = Message.build_user_question_text
    told["stream"] = ask(question("Hi there"))
    told["continued"] = ask(question("Again"), conversation_id=told["stream"][3])[0]
    polled = coze.chat.create_and_poll(
        bot_id="1", user_id="u", additional_messages=[question("Hi")]
    )
    told["polled"] = [
        polled.chat.status == ChatStatus.COMPLETED,
        [m.content for m in polled.messages if m.type == MessageType.ANSWER],
    ]
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(b"x" * 10)
        file.flush()
        with open(file.name, "rb") as opened:
            uploaded = coze.files.upload(file=opened)
    made = coze.conversations.create()
    image = MessageObjectString.build_image(file_id=uploaded.id)
    picture = Message.build_user_question_objects([MessageObjectString.build_text("See"), image])
    told["picture"] = ask(picture, conversation_id=made.id)[0]
    refused = {}
    for bot in ("code-4016", "code-4100"):
        try:
            ask(question("Hi"), bot=bot)
        except CozeAPIError as error:
            refused[bot] = [error.code, bool(error.logid)]
    try:
        ask(question("Hi"), conversation_id="made-up")
    except CozeAPIError as error:
        refused["conversation"] = [error.code, bool(error.logid)]
    told["refused"] = refused
    told["failed"] = ask(question("Hi"), bot="event-5000")[1]
    print(json.dumps(told))
    """
)


def test_the_official_sdk_chats_polls_uploads_and_is_refused(simulator, cozepy):
    told = cozepy.run(CHATS, COZE_URL=f"{simulator.url}/coze")
    text, events, usage, conversation = told["stream"]
    assert text == "You said: Hi there"
    assert events[:2] == ["conversation.chat.created", "conversation.chat.in_progress"]
    assert events[-1] == "conversation.chat.completed"  # the SDK keeps `done` to itself
    assert usage > 0
    assert conversation.isdigit()
    assert told["continued"] == "You said: Again (turn 2)"
    assert told["polled"] == [True, ["You said: Hi"]]
    assert told["picture"] == "You said: See (with 1 files)"
    assert told["refused"] == {
        "code-4016": [4016, True],
        "code-4100": [4100, True],
        "conversation": [4002, True],
    }
    assert "conversation.chat.failed" in told["failed"]
