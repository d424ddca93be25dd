"""The commands of `merloco`, by habit: build a store, ask it, retrain the fusion."""
