"""stub"""
async def examine(workflow, saver, loaded):
    return None
