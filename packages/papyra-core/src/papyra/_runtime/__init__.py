"""The machinery below `papyra.ActorSystem`; nothing in here is public."""
