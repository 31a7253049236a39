"""One door each for images, codes, labels and numbers: what a public function takes, and how it says what it does not.

Every public function of the Python interface, and the commands, let values in through here and nowhere else.
"""
