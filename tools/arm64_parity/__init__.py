"""The device API on 64-bit Arm, emulated: does every model answer there as it does here?"""
