"""What the `gigraph` command can do beside the workflow: one module per sub-command.

A command's module has a docstring (its help), `add_arguments(parser)` and `main(args)`. With ``PASSES_ON = True``
it takes arguments that it does not declare, too, as ``args.rest``.
"""
