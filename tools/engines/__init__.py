"""One pair of files, float and INT8, in many engines: do they load, and do they answer alike?"""
