"""``python -m burnish``, which is also how torchrun starts it: torchrun -m burnish train run.yaml"""

from burnish.cli.main import main

main()
