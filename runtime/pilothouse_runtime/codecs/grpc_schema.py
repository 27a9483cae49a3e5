"""The message classes of the gRPC protocol, in a pool of their own.

protobuf keeps the names of all messages of a process in one pool, and refuses a second definition of a name. A client
of the protocol in the same process (Triton's, KServe's, a user's) brings its own `inference.ModelInferRequest`;
so these classes are made from descriptors in a private pool.
"""

from __future__ import annotations

import base64
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from pilothouse_runtime.codecs.proto.descriptors import DESCRIPTORS
from pilothouse_runtime.core.errors import invalid

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(base64.b64decode(DESCRIPTORS)).file:
        pool.Add(file)
    return pool


POOL: Final = _pool()


def message_class(name: str) -> Any:
    """Return the class of a message by its full name; its fields are known at run time only, so its type is Any."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


def parse(cls: type[Message], body: bytes) -> Any:
    """Return a message read from the wire.

    Raises:
        RequestError: the bytes are no such message.
    """
    try:
        return cls.FromString(body)
    except DecodeError as error:
        raise invalid(f"the message is no {cls.DESCRIPTOR.full_name}: {error}") from None
