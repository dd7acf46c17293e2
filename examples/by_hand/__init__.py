"""The five programs once more, without the primitives: for readers who want to see what these are worth.

They use actors, `tell`, `ask`, supervision and `watch`, anyio and the standard library. They print what their
twins print, keep to the same style, and answer every caller: with an error if their actor stops.
"""
