"""What the lecture shows in pictures, measured anew each time: `python -m training LESSON [--to FOLDER]`.

Each file of this package is a lesson of that name.
"""
