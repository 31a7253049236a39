from .manifest import Manifest as Manifest
from .store import CodeStore as CodeStore
from .writer import CodeStoreWriter as CodeStoreWriter
