//! gRPC handlers: decode, send an event, await the reply, encode.
